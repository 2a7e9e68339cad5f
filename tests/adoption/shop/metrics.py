"""The shop's own metrics, in prometheus-client's default registry."""

from prometheus_client import Counter, Gauge, Histogram, Summary

ORDERS = Counter("shop_orders_total", "Orders, by article.", ["article"])
ON_THE_WAY = Gauge("shop_parcels_on_the_way", "Parcels that have left and not arrived.", multiprocess_mode="sum")
PRICES = Histogram("shop_price_euros", "Price of an order.", buckets=[10, 100])
WEIGHTS = Summary("shop_weight_kilograms", "Weight of an order.")
CONFIRMED = Counter("shop_confirmations_total", "Confirmations sent in the background.")
