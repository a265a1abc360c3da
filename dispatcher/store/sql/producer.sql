-- insert_event: one event as a producer writes it; no row where its dedup_key is there already
insert into outbox (type, data, occurred_at, network_id, dedup_key)
values ($1, $2::json, coalesce($3::text::timestamptz, now()), $4, $5)
on conflict do nothing;
