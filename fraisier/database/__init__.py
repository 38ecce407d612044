"""The store. It loads and applies its numbered migrations out of `db/`."""
