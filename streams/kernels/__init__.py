"""Vectorised rules over columns. Imports numpy and nothing else; knows no frame, no database, no clock.

Every rule here is sequential by nature (a reading is judged by those before it at the same connector), and is computed
in two ways that give the same result: connectors whose readings are plain (in order, nothing unusual) in closed form
over the whole batch, all others in rounds, where round r advances every such connector by its r-th reading.
"""
