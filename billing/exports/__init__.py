"""Files of many documents, streamed; a document as PDF."""
