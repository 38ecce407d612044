"""What a deployment consists of, one file per type of fraise: pure plans, tested without a server."""
