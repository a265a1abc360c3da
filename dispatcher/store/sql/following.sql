-- newest_batches: the newest batch of each lane with what tells it from another one of that number, and the latest change to webhooks
select l.lane, coalesce(p.batch, 0) as batch, concat_ws(' ', p.run_id, p.target, p.xid, p.outbox_id) as mark,
       (select version from registry_version) as registry_version, p.outbox_id,
       case when p.rest is not null
            then (select m.batch from message m where m.lane = l.lane and m.outbox_id = p.outbox_id
                   order by m.batch desc limit 1) end as begun
  from generate_series(0, 2) as l (lane)
  left join lateral (select * from tail_position where lane = l.lane order by batch desc limit 1) p on true;

-- batch_mark: what tells batch $2 of lane $1 from another one of that number
select concat_ws(' ', p.run_id, p.target, p.xid, p.outbox_id) as mark from tail_position p
 where p.lane = $1 and p.batch = $2 order by p.day desc limit 1;

-- followed: of lane $1, messages after ($2, $3) up to batch $4, with their webhooks in a shard that have no fact
-- At most $5, and no more than $6 deliveries together unless a single message has more; the shard is $8 of $7.
select n.batch, n.day, n.outbox_id, n.type, n.recorded_at, n.body, n.full_body, n.full_for, o.test, o.traceparent,
       n.before + n.fan_out >= $6 as last,
       array(select d.webhook_id from delivery d
              where d.day = n.day and d.outbox_id = n.outbox_id and d.webhook_id % $7::integer = $8
                and d.recovery_id is null
                and not exists (
                  select from delivery_event e
                   where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id)
              order by d.webhook_id) as webhook_ids
  from (
    select m.*, sum(m.fan_out) over (order by m.batch, m.outbox_id) - m.fan_out as before
      from (select * from message
             where lane = $1 and (batch, outbox_id) > ($2::bigint, $3::bigint) and batch <= $4
             order by batch, outbox_id limit $5) m) n
  join outbox o on o.day = n.day and o.id = n.outbox_id
 where n.before < $6
 order by n.batch, n.outbox_id;

-- ring_followers: tell the holders of the other shards that a batch was committed
select pg_notify($1, $2);
