"""How an app is served: the server, its connections with their bounds, and the routes that they answer directly."""
