"""The live view: the newest document of every key and a stream of its changes, in the process or in Redis."""
