-- The balance of a customer is over the documents that name it as the buyer.
CREATE INDEX document_terms_customer ON billing.document_terms ((buyer ->> 'customer_id'));
