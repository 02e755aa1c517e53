"""The partitioned log of records: in memory, or over RabbitMQ and Kafka."""
