"""The workers: one processor per partition, driven by Kafka with Faust or by the in-process log."""
