-- stay_connected: let this transaction wait for its reader, who may be a person with a pager
select set_config('idle_in_transaction_session_timeout', '0', true);

-- verify_webhooks: every webhook there ever was
select id, public_id from webhook;

-- verify_deliveries: since day $1, every delivery with its message and its facts, in the order of their places
-- Both joins run along the primary keys, which begin with what the rows are ordered by: nothing is sorted
-- or hashed as a whole.
select d.day, d.outbox_id, d.webhook_id, d.lane, m.lane as message_lane, m.batch, e.attempt_no, e.kind, e.state,
       e.trigger, e.failures, e.status_code, e.error_class, e.next_attempt_at
  from delivery d
  left join message m on m.day = d.day and m.outbox_id = d.outbox_id
  left join delivery_event e
    on e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id
 where d.day >= $1
 order by d.day, d.outbox_id, d.webhook_id, e.attempt_no, e.step;

-- verify_messages: since day $1, messages that are not what their row of the outbox says, or went to others than they say
-- The driver writes the first and the last moment that Python knows as infinities.
select m.day, m.outbox_id, m.fan_out, sent.deliveries, o.id is null as no_row,
       o.type is distinct from m.type or o.lane is distinct from m.lane
       or o.occurred_at <> m.occurred_at and isfinite(m.occurred_at) as another_row
  from message m
  left join outbox o on o.day = m.day and o.id = m.outbox_id
  left join (
    select d.day, d.outbox_id, count(*) as deliveries from delivery d
     where d.day >= $1 and d.recovery_id is null group by 1, 2
  ) sent on sent.day = m.day and sent.outbox_id = m.outbox_id
 where m.day >= $1
   and (o.id is null or o.type <> m.type or o.lane <> m.lane
        or o.occurred_at <> m.occurred_at and isfinite(m.occurred_at)
        or m.fan_out <> coalesce(sent.deliveries, 0))
 order by m.day, m.outbox_id;

-- verify_facts: since day $1, facts that belong to no delivery, one row for each that is missing
select e.day, e.outbox_id, e.webhook_id, count(*) as facts
  from delivery_event e
 where e.day >= $1
   and not exists (
    select from delivery d
     where d.day = e.day and d.outbox_id = e.outbox_id and d.webhook_id = e.webhook_id)
 group by 1, 2, 3 order by 1, 2, 3;

-- verify_outbox: since day $1, rows of the outbox that have no message: not read yet, or missed
select o.day, o.id as outbox_id, o.lane, o.type, o.xid::text as xid_text
  from outbox o
 where o.day >= $1
   and not exists (select from message m where m.day = o.day and m.outbox_id = o.id)
 order by o.day, o.id;

-- verify_message_count: since day $1, how many events were scheduled
select count(*) from message where day >= $1;
