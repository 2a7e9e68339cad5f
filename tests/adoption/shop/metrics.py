"""The shop's own metrics, in prometheus-client's default registry."""

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary

ORDERS = Counter("shop_orders_total", "Orders, by article.", ["article"])
ON_THE_WAY = Gauge("shop_parcels_on_the_way", "Parcels that have left and not arrived.", multiprocess_mode="sum")
SHELVES = Gauge("shop_shelves", "Shelves of the shop.", multiprocess_mode="max")
SHELVES.set(12)
PRICES = Histogram("shop_price_euros", "Price of an order.", buckets=[10, 100])
WEIGHTS = Summary("shop_weight_kilograms", "Weight of an order.")
CONFIRMED = Counter("shop_confirmations_total", "Confirmations sent in the background.")
# The library has these two in one process only.
DOOR = Enum("shop_door", "The door of the shop.", states=["open", "closed"])
ADDRESS = Info("shop_address", "Where the shop is.")
ADDRESS.info({"town": "Ubud"})
