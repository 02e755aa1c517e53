ALTER TABLE stations.heard RENAME TO received;
