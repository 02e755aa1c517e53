"""Events between services: the bus, its consumers, outbox and inbox, dead letters, RabbitMQ connections."""
