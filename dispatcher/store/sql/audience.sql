-- routed_event: an event by its outbox id alone: one probe for each day that is kept
select o.day, o.id, o.type, o.occurred_at, o.recorded_at, o.test,
       m.fan_out is not null and not exists (select from fan_out_begun b where b.outbox_id = o.id) as scheduled,
       o.event_id, o.data::text as data_text,
       target.organization_id as target_organization_id, target.public_id as target_webhook,
       about.organization_id as about_organization_id,
       coalesce(o.network_id, (
           select e.network_id from outbox e
            where e.event_id = o.event_id and e.network_id is not null and not e.test
            order by e.id limit 1)) as network_id
  from generate_series(
        (select day from outbox order by day limit 1)::timestamp,
        (select day from outbox order by day desc limit 1)::timestamp, '1 day') as s (day)
 cross join lateral (
    select *, case when type like 'webhook.%' then outbox_readable(data::text) ->> 'webhook_id' end as subject
      from outbox where day = s.day::date and id = $1) o
  left join message m on m.day = o.day and m.outbox_id = o.id
  left join webhook target on target.id = o.target_webhook_id
  left join webhook about on about.public_id = o.subject
 limit 1;

-- told_organization: whether any webhook of organization $3 was told of an event
select exists (
    select from webhook w
      join delivery d on d.day = $1 and d.outbox_id = $2 and d.webhook_id = w.id
     where w.organization_id = $3);

-- audience: a page of an organization's webhooks, with the delivery of an event to each that was told
select w.id, w.public_id, w.organization_id, w.url, w.events, w.network_ids, w.filter::text as filter, w.active, w.disabled_reason,
       w.created_at, d.webhook_id is not null as told, e.state
  from webhook w
  left join delivery d on d.day = $1 and d.outbox_id = $2 and d.webhook_id = w.id
  left join lateral (
    select e.state from delivery_event e
     where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id
     order by e.attempt_no desc, e.step desc limit 1) e on true
 where w.organization_id = $3 and w.deleted_at is null
 order by w.id desc offset $4 limit $5;
