-- A client certificate is the identity of one station: its common name has to be one station's.

-- What several stations had until now identifies none of them, and stays as it is shown, until one of them is given it
-- again.
ALTER TABLE stations.credential ADD COLUMN certificate_shared boolean NOT NULL DEFAULT false;
UPDATE stations.credential SET certificate_shared = true
WHERE certificate_subject IN (
    SELECT certificate_subject FROM stations.credential GROUP BY certificate_subject HAVING count(*) > 1
);
CREATE UNIQUE INDEX credential_certificate_key ON stations.credential (certificate_subject)
WHERE certificate_subject IS NOT NULL AND NOT certificate_shared;

-- Contract: of these common names, those that are a station's, with the station.
CREATE FUNCTION stations.certificate_stations(subjects text[])
    RETURNS TABLE (certificate_subject text, station_id text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT c.certificate_subject, c.station_id
FROM stations.credential AS c
WHERE c.certificate_subject = ANY (subjects) AND NOT c.certificate_shared
$$;
REVOKE EXECUTE ON FUNCTION stations.certificate_stations(text[]) FROM PUBLIC;
