"""The workers: one processor a partition, driven by Kafka with Faust or by the in-process log."""
