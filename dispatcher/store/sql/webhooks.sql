-- insert_webhook: a new webhook
insert into webhook (public_id, organization_id, url, events, network_ids, description, headers,
                     ca_certificates, active, secret, filter, payload, ordering,
                     "coalesce", max_age_s, settle_s, rate_limit_per_s)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::json, $12, $13, $14, $15, $16, $17)
returning id, public_id, url, events, network_ids, description, filter::text as filter, payload, ordering,
          "coalesce", max_age_s, settle_s, rate_limit_per_s, headers, ca_certificates, active, disabled_reason,
       created_at, updated_at,
       case when next_secret_at > now() then next_secret_at end as next_secret_at;

-- webhooks: a page of an organization's webhooks, the newest first, those that hold $2, or are active or not
select id, public_id, url, events, network_ids, description, filter::text as filter, payload, ordering,
       "coalesce", max_age_s, settle_s, rate_limit_per_s, headers, ca_certificates, active, disabled_reason,
       created_at, updated_at,
       case when next_secret_at > now() then next_secret_at end as next_secret_at
  from webhook where organization_id = $1 and deleted_at is null
   and ($2::text is null or strpos(lower(public_id || ' ' || url || ' ' || description), lower($2)) > 0)
   and ($3::boolean is null or active = $3)
 order by id desc offset $4 limit $5;

-- webhook_count: how many of those an organization has
select count(*) from webhook where organization_id = $1 and deleted_at is null
   and ($2::text is null or strpos(lower(public_id || ' ' || url || ' ' || description), lower($2)) > 0)
   and ($3::boolean is null or active = $3);

-- webhook: one webhook of an organization; one that was deleted only where $3
select id, public_id, url, events, network_ids, description, filter::text as filter, payload, ordering,
       "coalesce", max_age_s, settle_s, rate_limit_per_s, headers, ca_certificates, active, disabled_reason,
       created_at, updated_at,
       case when next_secret_at > now() then next_secret_at end as next_secret_at
  from webhook where organization_id = $1 and public_id = $2 and ($3 or deleted_at is null);

-- webhook_for_update: the same, held until the transaction ends
select id, public_id, url, events, network_ids, description, filter::text as filter, payload, ordering,
       "coalesce", max_age_s, settle_s, rate_limit_per_s, headers, ca_certificates, active, disabled_reason,
       created_at, updated_at,
       case when next_secret_at > now() then next_secret_at end as next_secret_at
  from webhook where organization_id = $1 and public_id = $2 and deleted_at is null for update;

-- update_webhook: what a client may change; a new secret ends a rotation, and so does the end of its grace
-- Another URL is another receiver, and whoever activates a webhook expects it to be tried: earlier failures are over.
update webhook
   set url = $2, events = $3, network_ids = $4, description = $5, headers = $6, ca_certificates = $10, active = $7,
       filter = $11::json, payload = $12, ordering = $13, "coalesce" = $14, max_age_s = $15, settle_s = $16,
       rate_limit_per_s = $17, disabled_reason = $8,
       secret = coalesce($9, case when next_secret_at <= now() then next_secret else secret end),
       next_secret = case when $9::bytea is null and next_secret_at > now() then next_secret end,
       next_secret_at = case when $9::bytea is null and next_secret_at > now() then next_secret_at end,
       judged_from = case when url <> $2 or $7 and not active then now() else judged_from end,
       updated_at = now()
 where id = $1
returning id, public_id, url, events, network_ids, description, filter::text as filter, payload, ordering,
          "coalesce", max_age_s, settle_s, rate_limit_per_s, headers, ca_certificates, active, disabled_reason,
       created_at, updated_at,
       case when next_secret_at > now() then next_secret_at end as next_secret_at;

-- rotate_secret: let secret $3 take over from the one in force after $4 seconds; at once where that is 0
-- A coming secret whose grace is over is the one in force; one whose grace is not over is replaced.
update webhook
   set secret = case when $4::bigint = 0 then $3
                     when next_secret_at <= now() then next_secret else secret end,
       next_secret = case when $4 > 0 then $3::bytea end,
       next_secret_at = case when $4 > 0 then now() + make_interval(secs => $4) end,
       updated_at = now()
 where organization_id = $1 and public_id = $2 and deleted_at is null
returning coalesce(next_secret_at, updated_at) as takes_over_at;

-- delete_webhook: the row stays, because the history refers to it
update webhook set deleted_at = now(), active = false, updated_at = now() where id = $1;

-- webhook_health: what these webhooks answered lately: four probes of one index for each
select w.id, success.started_at as last_success_at, failing.started_at as failing_since,
       greatest(success.started_at, failure.started_at, test_failure.started_at) as last_attempt_at
  from unnest($1::bigint[]) as w (id)
  left join lateral (
      select e.started_at, e.recorded_at from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted'
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 2
       order by e.recorded_at desc limit 1) success on true
  left join lateral (
      select e.started_at from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted'
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 0
         and e.recorded_at > coalesce(success.recorded_at, '-infinity')
       order by e.recorded_at limit 1) failing on true
  left join lateral (
      select e.started_at from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted'
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 0
       order by e.recorded_at desc limit 1) failure on true
  left join lateral (
      select e.started_at from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted'
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 1
       order by e.recorded_at desc limit 1) test_failure on true;

-- insert_test: an event for one webhook alone, marked as a test
insert into outbox (type, data, target_webhook_id, test) values ($1, $2::json, $3, true)
returning day, id, occurred_at, recorded_at;
