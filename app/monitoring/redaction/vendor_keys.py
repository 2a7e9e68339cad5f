"""Keys and tokens that their vendors' prefixes identify, from the vendors' own descriptions of their formats.

To add a vendor, add a line to `_FORMS`. The forms are compiled into one pattern, a tree of their beginnings:
the search skips to the first characters, so that ordinary text costs little however many forms there are. Every
unbounded repetition is possessive and ends its form, so that a text is read a bounded number of times.
"""

import re
from collections import defaultdict
from operator import itemgetter

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# The rest of a number of 17 to 20 digits in base64, behind the first letter.
_SNOWFLAKE = r"[DTjz][A-Za-z][0-5w-z][\w-]{18,24}+"
# Signs of base64 as URLs have them.
_ENCODED = r"(?>(?:%(?:2[BbFf]|3[Dd])[\w+/=-]*+)*)"
# Formats of letters only are found in prose too: of these a digit is demanded.
_DIGIT = r"(?=[A-Za-z_-]{0,60}\d)"

# One form a line. With a caret it is looked for at the beginning of a word only. Of prefixes that mean nothing else,
# a key that was cut short is found too.
_FORMS = rf"""
    ^1//0[\w-]{{20,}}+                                     # Google: refresh token
    ^A(?:3T[A-Z0-9]|BIA|CCA|IPA|NPA|NVA)[A-Z0-9]{{16}}(?![A-Za-z0-9])    # Amazon
    ^A(?:KIA|SIA|GPA|IDA|ROA)(?=[A-Z]{{0,20}}\d|[A-Z]{{16}}(?![A-Za-z0-9]))[A-Z0-9]{{12,}}+
    ^A21AA[\w-]{{40,}}+                                    # PayPal
    ^A3-[A-Z0-9]{{6}}-[A-Z0-9]{{6}}(?:-[A-Z0-9]{{5}}){{4}}       # 1Password
    ^AC[a-z0-9]{{32}}(?!\w)                                # Twilio
    ^AIza[\w-]{{20,}}+                                     # Google
    ^AKC{_DIGIT}[A-Za-z0-9]{{10,}}+                        # Artifactory
    ^AP[\dA-F]{_DIGIT}(?=[A-Z\d]{{0,60}}[a-z])[A-Za-z0-9]{{13,}}+
    ^AQ\.Ab[\w-]{{20,}}+                                   # Google
    ^AT[ACS]TT3[\w=-]{{16,}}+{_ENCODED}    # Atlassian
    ^ATBB[A-Za-z0-9]{{20,}}+                               # Bitbucket
    ^ATTA[0-9a-f]{{32,}}+                                  # Trello
    ^BBDC-[\w+/@]{{20,}}+{_ENCODED}    # Bitbucket
    ^CCIP(?:AT|RJ)_\w{{20,}}+                              # CircleCI
    ^CFPAT-[\w-]{{20,}}+                                   # Contentful
    ^CLOJARS_[0-9a-f]{{32,}}+
    ^EAA{_DIGIT}[\w-]{{28,}}+                              # Facebook, Square
    ^EZ[AT]K[A-Za-z0-9]{{40,}}+                            # EasyPost
    ^FLWSECK(?:_TEST)?-[\w-]{{12,}}+                       # Flutterwave
    ^GR1348941[\w-]{{16,}}+                                # GitLab
    ^HRKU-[\w-]{{20,}}+                                    # Heroku
    ^LTAI[A-Za-z0-9]{{12,}}+                               # Alibaba
    ^M{_SNOWFLAKE}\.[\w-]{{6}}\.[\w-]{{27,}}+                # Discord: bot
    ^N{_SNOWFLAKE}\.[\w-]{{6}}\.[\w-]{{27,}}+
    ^O{_SNOWFLAKE}\.[\w-]{{6}}\.[\w-]{{27,}}+
    ^NR(?:AK|AL|BR|II|IQ|JS|RA|SP)-[\w-]{{16,}}+           # New Relic
    ^PMA[KT]-[\w-]{{20,}}+                                 # Postman
    ^SCW[A-Z0-9]{{17}}(?!\w)                               # Scaleway
    ^SK[a-z0-9]{{32}}(?!\w)                                # Twilio
    ^SSWS[ ]{{1,4}}[\w-]{{20,}}+                             # Okta
    AGE-SECRET-KEY-\w{{16,}}+
    GOCSPX-[\w-]{{10,}}+                                   # Google
    IncomingWebhook/\w{{20,64}}/[\w-]{{20,}}+              # Teams
    Mid-(?:server|client)-[\w-]{{8,}}+                     # Midtrans
    SG\.[\w-]{{16,}}+\.[\w-]{{16,}}+                         # SendGrid
    ^access-(?:sandbox|development|production)-{_UUID}     # Plaid
    ^access_token\$(?:production|sandbox)\$[0-9a-z]{{10,32}}\$[0-9a-f]{{20,}}+    # PayPal
    ^aio_[A-Za-z0-9]{{28}}(?!\w)                           # Adafruit
    ^api_org_[A-Za-z0-9]{{20,}}+                           # Hugging Face
    ^apify_api_[A-Za-z0-9]{{20,}}+
    ^b\.AAAAA[\w-]{{20,}}+                                 # Vault: batch token
    ^bkua_[0-9a-f]{{32,}}+                                 # Buildkite
    ^cf(?:at|k|ut)_[A-Za-z0-9]{{30,}}+                     # Cloudflare
    ^d(?:api|kea|ose)[0-9a-f]{{32}}(?![A-Za-z0-9])         # Databricks
    ^dp\.(?:audit|ct|pt|said|sa|scim|st)\.(?:[\w-]{{2,35}}\.)?[A-Za-z0-9]{{20,}}+    # Doppler
    ^dt0[a-z]\d\d\.[A-Z0-9]{{24}}\.[A-Z0-9]{{32,}}+          # Dynatrace
    ^duffel_(?:live|test)_[\w-]{{20,}}+
    ^fc-[0-9a-f]{{32}}(?!\w)                               # Firecrawl
    ^fig(?:d|o[hr]?|u[hr]?)_{_DIGIT}[\w-]{{20,}}+          # Figma
    ^fio-u-[\w-]{{40,}}+                                   # Frame.io
    ^fm[12][ar]?_[\w+/=-]{{20,}}+{_ENCODED}    # Fly
    ^fo1_[\w-]{{20,}}+
    ^gl(?:c|sa)_[\w+/=-]{{16,}}+{_ENCODED}    # Grafana
    ^gsk_[A-Za-z0-9]{{20,}}+                               # Groq
    ^hv[brs]\.[\w-]{{16,}}+                                # Vault
    ^lin_(?:api|oauth|wh)_\w{{16,}}+                       # Linear
    ^live_{_DIGIT}[A-Za-z0-9]{{30,}}+(?![\w-])             # Mollie, Lob
    ^test_{_DIGIT}[A-Za-z0-9]{{30,}}+(?![\w-])
    ^lsv2_(?:pt|sk)_\w{{20,}}+                             # LangSmith
    ^mdb_sa_sk_[\w-]{{20,}}+                               # MongoDB Atlas
    ^mfa\.[\w-]{{40,}}+                                    # Discord: account
    ^nf[bcopu]_[A-Za-z0-9]{{30,}}+                         # Netlify
    ^ntn_[A-Za-z0-9]{{20,}}+                               # Notion
    ^nvapi-[\w-]{{20,}}+                                   # NVIDIA
    ^oy2[a-z0-9]{{40,}}+                                   # NuGet
    ^pat-(?:na|eu|ap)\d-{_UUID}                            # HubSpot
    ^pat[A-Za-z0-9]{{14}}\.[0-9a-f]{{40,}}+                  # Airtable
    ^pcsk_\w{{30,}}+                                       # Pinecone
    ^ph[cx]_[A-Za-z0-9]{{30,}}+                            # PostHog
    ^pk_(?:live|prod|test)_\w{{8,}}+                       # Stripe and others
    ^pplx-[A-Za-z0-9]{{30,}}+                              # Perplexity
    ^pul-[0-9a-f]{{32,}}+                                  # Pulumi
    ^r8_[A-Za-z0-9]{{30,}}+                                # Replicate
    ^rdme_[a-z0-9]{{40,}}+                                 # ReadMe
    ^re_[A-Za-z0-9]{{6,10}}_[A-Za-z0-9]{{20,}}+              # Resend
    ^rk_(?:live|prod|test)_\w{{8,}}+                       # Stripe
    ^rnd_[A-Za-z0-9]{{24,}}+                               # Render
    ^rzp_(?:live|test)_[A-Za-z0-9]{{10,}}+                 # Razorpay
    ^s\.{_DIGIT}[A-Za-z0-9]{{24}}(?![\w.])                 # Vault: service token before 1.10
    ^sbp_(?:oauth_|v0_)?[0-9a-f]{{32,}}+                   # Supabase
    ^sdk-{_UUID}                                         # LaunchDarkly
    ^secret_{_DIGIT}[A-Za-z0-9]{{32,}}+                    # Notion
    ^sess-[A-Za-z0-9]{{30,}}+                              # OpenAI
    ^sk-(?=[A-Za-z_-]{{0,60}}\d|[\w-]{{20}})[\w-]{{8,}}+       # OpenAI, Anthropic and the like
    ^sk_(?:live|prod|test)_\w{{8,}}+                       # Stripe and others
    ^sk_[0-9a-f]{{40,}}+                                   # ElevenLabs
    ^sl\.(?:u\.)?[\w-]{{60,}}+                             # Dropbox
    ^sq[apu]_[0-9a-f]{{40}}(?!\w)                          # Sonar
    ^tfp_[\w-]{{30,}}+                                     # Typeform
    ^tgp_v1_[\w-]{{20,}}+                                  # Together
    ^tskey-(?:[a-z]{{2,10}}-)?[\w-]{{10,}}+                  # Tailscale
    ^tvly-[\w-]{{20,}}+                                    # Tavily
    ^v1\.0-[0-9a-f]{{24}}-[0-9a-f]{{100,}}+                  # Cloudflare: origin CA
    ^v[1-4]\.(?:local|public)\.[\w-]{{20,}}+               # PASETO
    ^vc[aikpr]_[A-Za-z0-9]{{24,}}+                         # Vercel
    ^x(?:key|smtp)sib-[\w-]{{30,}}+                        # Brevo
    ^xai-[A-Za-z0-9]{{40,}}+
    ^y[0-3]_[\w-]{{40,}}+                                  # Yandex
    ^zpka_\w{{20,}}+                                       # Zuplo
    cmVmdGtu[A-Za-z0-9]{{16,}}+                            # Artifactory: base64 of reftkn
    dckr_[a-z]{{3}}_[\w-]{{16,}}+                            # Docker
    do[opr]_v1_\w{{16,}}+                                  # DigitalOcean
    eyJ[\w-]{{10,}}+(?:={{1,2}}(?=\.))?(?:\.{{1,2}}[\w-]++){{0,4}}     # JSON Web Token or the like: base64 of {{"
    eyAi[\w-]{{10,}}+(?:={{1,2}}(?=\.))?(?:\.{{1,2}}[\w-]++){{1,4}}    # with a blank or a newline behind the bracket
    ewog[\w-]{{10,}}+(?:={{1,2}}(?=\.))?(?:\.{{1,2}}[\w-]++){{1,4}}
    gh[oprsu]_\w{{16,}}+                                   # GitHub
    github_pat_\w{{16,}}+
    gl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rtr|rt|soat|wt)-[\w-]{{16,}}+(?:\.[\w-]++){{0,3}}    # GitLab
    hf_[A-Za-z0-9]{{16,}}+                                 # Hugging Face
    hooks/catch/\d{{4,12}}/\w{{4,}}+                         # Zapier
    key-[0-9a-f]{{32}}(?!\w)                               # Mailgun
    npm_[A-Za-z0-9]{{16,}}+
    pscale_(?:oauth|pw|tkn)_[\w-]{{16,}}+                  # PlanetScale
    pypi-AgE[\w-]{{12,}}+
    rubygems_[0-9a-f]{{32,}}+
    sb_(?:publishable|secret)_[\w-]{{16,}}+                # Supabase
    services/T[A-Z0-9]{{6,12}}/[\w/]{{16,}}+                 # Slack: webhooks
    triggers/[TE][A-Z0-9]{{6,12}}/[\w/]{{16,}}+
    workflows/T[A-Z0-9]{{6,12}}/[\w/]{{16,}}+
    shippo_(?:live|test)_[0-9a-f]{{20,}}+
    shp(?:at|ca|ltka|pa|ss|tka)_[0-9a-fA-F]{{16,}}+        # Shopify
    sntry[a-z]_[\w+/=-]{{16,}}+{_ENCODED}    # Sentry
    soap/v3(?:\.1)?/[a-z0-9]{{64}}                         # SoftLayer
    sq0[a-z]{{3}}-[\w-]{{16,}}+                              # Square
    webhooks/\d{{16,20}}/[\w-]{{40,}}+                       # Discord
    whsec_[\w+/=-]{{16,}}+{_ENCODED}    # Stripe and others
    xapp-[\w-]{{8,}}+                                      # Slack
    xox[a-z](?:\.xox[a-z])?-[\w-]{{8,}}+(?:%[\w%-]++)?
    xnd_(?:production|development|public_\w{{1,12}})_\w{{10,}}+    # Xendit
    ya29\.[\w-]{{10,}}+                                    # Google
"""
# The characters with which a form begins, up to the first that is special or repeated.
_LITERAL = re.compile(r"(?:\\[.$]|[\w/ -](?![?*+{]))+")


def _tree(forms: list[tuple[str, str]], depth: int = 0) -> str:
    """Return one expression for forms, each a literal beginning and the rest, as a tree of the beginnings."""
    rests = [rest.replace("{depth}", str(depth)) for literal, rest in forms if not literal]
    heads: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for literal, rest in filter(itemgetter(0), forms):
        head = literal[: 2 if literal[0] == "\\" else 1]
        heads[head].append((literal[len(head) :], rest))
    branches = [head + _tree(below, depth + 1) for head, below in heads.items()] + rests
    return f"(?:{'|'.join(branches)})" if len(branches) > 1 else branches[0]


def _compiled(forms: str) -> re.Pattern[str]:
    found = []
    for line in filter(str.strip, forms.splitlines()):
        form = line.partition("  #")[0].strip()
        at_start, form = form.startswith("^"), form.removeprefix("^")
        literal = _LITERAL.match(form)
        size = literal.end() if literal else 0
        # The letter of an escape such as \n is not part of the word.
        start = r"(?:(?<![^\W_].{{depth}})|(?<=\\[nrt].{{depth}}))" if at_start else ""
        found.append((form[:size], start + form[size:]))
    return re.compile(_tree(found))


_PREFIXED = _compiled(_FORMS)
# Forms that something within identifies.
_TELEGRAM = re.compile(r"\d(?<!\d\d)\d{7,9}:(?=\d{0,34}[A-Za-z])[\w-]{35}(?![\w-])")
_TERRAFORM = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{14}\.atlasv1\.[\w-]{16,}+")
_MAILCHIMP = re.compile(r"(?<![A-Za-z0-9])[0-9a-z]{32}-us\d{1,2}(?!\w)")
_AZURE = re.compile(r"(?<![\w~.-])[A-Za-z0-9_~.-]{3}\dQ~[A-Za-z0-9_~.-]{31,34}(?![\w~-])")
# Private keys beside those of PEM: of SSH2 to the end of the block, of PuTTY to the checksum.
_SSH2 = re.compile(
    r"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----(?>(?:[^-]|-(?!--- END))*)(?:---- END[A-Z0-9 ]{0,60}-{0,4})?"
)
_PUTTY = re.compile(r"PuTTY-User-Key-File-\d:(?>(?:[^P]|P(?!rivate-MAC:))*)(?:Private-MAC:[ ]?[0-9a-f]{0,64})?")
_JSON = ("eyJ", "eyAi", "ewog")


def redact_vendor_keys(text: str) -> str:
    """Return `text` with "[jwt]", "[key]" and "[private key]" for keys and tokens of known vendors."""
    text = _PREFIXED.sub(lambda match: "[jwt]" if match[0].startswith(_JSON) else "[key]", text)
    if ":" in text:
        text = _TELEGRAM.sub("[key]", text)
    for mark, pattern in ((".atlasv1.", _TERRAFORM), ("-us", _MAILCHIMP), ("Q~", _AZURE)):
        if mark in text:
            text = pattern.sub("[key]", text)
    for mark, pattern in (("BEGIN SSH2", _SSH2), ("PuTTY-User-Key", _PUTTY)):
        if mark in text:
            text = pattern.sub("[private key]", text)
    return text
