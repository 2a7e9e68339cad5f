"""The parts of a trace: sampling, request spans, the bounded queue, redaction."""
