"""The service `config`: settings and flags that operators change while everything runs."""
