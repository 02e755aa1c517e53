"""The partitioned log of records: in the process, or over RabbitMQ and Kafka."""
