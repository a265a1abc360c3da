-- registry_webhooks: webhooks that changed after version $1: all of them for the first of $2 shards, else those of $3
select w.id, w.public_id, w.organization_id, w.url, w.events, w.network_ids, w.filter::text as filter, w.payload,
       w.ordering, w.coalesce, w.max_age_s, w.settle_s, w.rate_limit_per_s, w.headers, w.ca_certificates,
       w.active and w.deleted_at is null as active, w.deleted_at is not null as deleted, w.disabled_reason,
       w.secret, w.next_secret, w.next_secret_at, w.version
  from webhook w where w.version > $1 and ($3::integer = 0 or w.id % $2::integer = $3) order by w.version;

-- registry_networks: which organization hears of which network
select organization_id, network_id from organization_network;

-- registry_event_types: the fields that each type registers
select name, array(select json_object_keys(fields)) as fields from event_type;

-- registry_version: the number of the latest change
select version from registry_version;
