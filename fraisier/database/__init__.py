"""The stores: each loads and applies its numbered migrations out of `db/`."""
