"""Who runs the engine: a partition's life, over Kafka with Faust or over the in-process log."""
