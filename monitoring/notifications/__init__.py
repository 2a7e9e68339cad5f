"""A receiver that shows the notifications of Alertmanager where nothing else takes them."""
