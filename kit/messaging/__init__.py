"""Events between services: the bus, outbox and inbox, consumers, dead letters, and RabbitMQ connections."""
