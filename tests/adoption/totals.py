"""A round of requests for every route of the shop, and the totals that so many rounds make."""

from tests.adoption.running import Shop
from tests.process.service import wait_for

ORDER = "/api/v1/orders/{article}"
MASK, SARONG, BOAT = (("POST", f"/api/v1/orders/{article}") for article in ("mask", "sarong", "boat"))
REFUND, COMPLAINT = ("POST", "/api/v1/orders/7/refund"), ("POST", "/api/v1/orders/7/complaint")
PAYROLL = ("GET", "/staff/payroll/monday")
# Every route of the shop, those of the mounted application and a path without a route included.
ROUND = [
    *[MASK] * 12,
    *[SARONG] * 8,
    *[BOAT] * 2,
    *[("GET", "/live/news")] * 4,
    *[("GET", "/staff/shifts/monday"), ("GET", "/staff/shifts/tuesday")] * 2,
    *[("GET", "/"), ("GET", "/api/v1/orders/slow/0"), COMPLAINT],
    *[REFUND] * 2,
    *[PAYROLL] * 2,
]


def check_totals(shop: Shop, rounds: int) -> None:
    """Compare every total with the client's ledger, and the shop's own metrics with what `rounds` rounds make."""
    masks, sarongs = 12 * rounds, 8 * rounds
    orders = masks + sarongs
    assert shop.ledger["POST", ORDER, "201"] == orders
    # The background task of an answer ends after it.
    wait_for(lambda: shop.total("shop_confirmations_total") == orders, "the last confirmation")
    # An error passes Sentry after its answer, and is counted then.
    wait_for(lambda: shop.answers().total() >= shop.ledger.total(), "the last failure to be counted")
    assert shop.answers() == shop.ledger
    assert shop.total("http_request_duration_seconds_count") == shop.ledger.total()
    assert shop.total("shop_orders_total", article="mask") == masks
    assert shop.total("shop_orders_total", article="sarong") == sarongs
    assert shop.total("shop_parcels_on_the_way") == orders
    assert shop.total("shop_shelves") == 12
    assert shop.total("shop_price_euros_bucket", le="10.0") == sarongs
    assert shop.total("shop_price_euros_bucket", le="100.0") == orders
    assert shop.total("shop_price_euros_sum") == 64 * masks + 8 * sarongs
    assert shop.total("shop_weight_kilograms_count") == orders
    assert shop.total("shop_weight_kilograms_sum") == 0.5 * orders
