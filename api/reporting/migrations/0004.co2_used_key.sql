-- Days of one version are read together.
ALTER TABLE reporting.co2_used DROP CONSTRAINT co2_used_pkey, ADD PRIMARY KEY (version, day);
