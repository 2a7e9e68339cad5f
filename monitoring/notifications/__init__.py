"""What shows the notifications of Alertmanager where nothing else takes them."""
