"""`fraises.yaml` becomes frozen models here; every default and every check of it lives here."""
