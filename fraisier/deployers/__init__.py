"""What a deployment of each fraise type consists of: pure plans, tested without a server."""
