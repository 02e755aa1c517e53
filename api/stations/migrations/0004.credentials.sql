-- How chargers prove who they are: written by operators, and read by whoever takes their connections.

CREATE TABLE stations.credential (
    station_id          text COLLATE "C" PRIMARY KEY REFERENCES stations.station ON DELETE CASCADE,
    password_hash       text,  -- kit.auth.passwords
    certificate_subject text,  -- the common name of its client certificate
    changed_at          timestamptz NOT NULL,
    changed_by          text NOT NULL,
    CHECK (password_hash IS NOT NULL OR certificate_subject IS NOT NULL)
);

-- Contract: a row for each of these stations (upper case) that is registered and has credentials.
CREATE FUNCTION stations.charger_credentials(stations text[])
    RETURNS TABLE (station_id text, password_hash text, certificate_subject text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT c.station_id, c.password_hash, c.certificate_subject
FROM stations.credential AS c
WHERE c.station_id = ANY (stations)
$$;
REVOKE EXECUTE ON FUNCTION stations.charger_credentials(text[]) FROM PUBLIC;
