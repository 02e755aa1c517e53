-- The version that a demand rule moved to make this one: with it, what demand adds to a price can be computed. Of versions
-- that operators published, and of those from before this migration, there is none.
ALTER TABLE pricing.version
    ADD COLUMN base_version uuid REFERENCES pricing.version (id),
    ADD CHECK (base_version IS NULL OR reason = 'demand');

-- A contract. Of versions by their id, those that there are: whether a demand rule published it, and the version that it
-- was made from with its tariff. Both are null where operators published it, and where the base is not known.
CREATE FUNCTION pricing.bases(versions uuid[])
    RETURNS TABLE (id uuid, by_demand boolean, base_id uuid, base_tariff jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT v.id, v.reason = 'demand', base.id, base.tariff
FROM pricing.version AS v
LEFT JOIN pricing.version AS base ON base.id = v.base_version
WHERE v.id = ANY (versions)
$$;

REVOKE EXECUTE ON FUNCTION pricing.bases(uuid[]) FROM PUBLIC;
