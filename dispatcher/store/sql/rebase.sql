-- rebase_patience: how long to wait for producers whose transactions are open
select set_config('lock_timeout', '5s', true);

-- rebase_lock: let every open INSERT into the outbox end, and none begin
lock table outbox in share row exclusive mode;

-- rebase_begin: let ids go on $1 beyond those given so far; that bound, and what is visible now
select setval(name, coalesce(pg_sequence_last_value(name), 0) + $1) as boundary,
       pg_current_snapshot()::text as snapshot
  from (select pg_get_serial_sequence('outbox', 'id')::regclass as name) s;

-- rebase_rehearse: the same without changing anything
select coalesce(pg_sequence_last_value(name), 0) as boundary, pg_current_snapshot()::text as snapshot
  from (select pg_get_serial_sequence('outbox', 'id')::regclass as name) s;

-- rebase_hold_leases: runs $1 hold their shards until this transaction ends, whatever the time
select run_id from lease where run_id = any ($1::bigint[]) for update;

-- rebase_days: the first and the last day of the outbox
select min(day) as first, max(day) as last from outbox;

-- rebase_unread: rows of day $1 with ids from $2 (exclusive) to $3 that have no message
select o.xid::text as xid_text, o.id, o.day, o.lane, o.type, o.data::text as data_text, o.occurred_at,
       o.recorded_at, o.target_webhook_id, o.test, o.event_id, o.traceparent,
       coalesce(o.network_id, (
           select e.network_id from outbox e
            where e.event_id = o.event_id and e.network_id is not null and not e.test
            order by e.id limit 1)) as network_id
  from outbox o
 where o.day = $1 and o.id > $2 and o.id <= $3
   and not exists (select from message m where m.day = o.day and m.outbox_id = o.id)
 order by o.id limit $4;

-- rebase_interrupt: of day $2's deliveries, write down the attempts that may have been made after the backup
-- Whatever would be sent now: what has no fact, and what a fact makes due. What was due later is due then.
insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger, failures,
                            run_id, reason, next_attempt_at)
select d.day, d.outbox_id, d.webhook_id,
       case when last.kind in ('requested', 'postponed') then last.attempt_no else coalesce(last.attempt_no, 0) + 1 end, 2,
       'interrupted', coalesce(last.state, 'pending'),
       case when last.kind is null then 'first'
            when last.kind in ('requested', 'interrupted', 'postponed') then last.trigger else 'retry' end,
       coalesce(last.failures, 0), held.run_id, 'restored',
       greatest(last.next_attempt_at, statement_timestamp() + d.lane * interval '1 millisecond')
  from lease held
  join delivery d on d.day = $2
  left join lateral (
      select e.attempt_no, e.kind, e.state, e.trigger, e.failures, e.next_attempt_at from delivery_event e
       where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id
       order by e.attempt_no desc, e.step desc limit 1) last on true
 where held.run_id = $1 and (last.kind is null or last.next_attempt_at is not null);

-- rebase_stop_recoveries: end the recoveries that had not ended: what they had sent is not known
insert into recovery_progress (recovery_id, step, run_id, phase, day, place, failed, cancelled, missing, reason)
select r.id, coalesce(p.step, 0) + 1, held.run_id, 'stopped', p.day, coalesce(p.place, 0), coalesce(p.failed, 0),
       coalesce(p.cancelled, 0), coalesce(p.missing, 0), 'the database was restored from a backup'
  from lease held
  cross join recovery r
  left join lateral (
    select * from recovery_progress where recovery_id = r.id order by step desc limit 1) p on true
 where held.run_id = $1
   and not exists (
    select from recovery_progress e where e.recovery_id = r.id and e.phase in ('completed', 'stopped'));

-- rebase_done: rows up to $2 have been dealt with
insert into rebase (run_id, outbox_id) values ($1, $2);

-- rebase_same_xids: repeat the newest position of lane $2 as this server's; none where it is already
insert into tail_position (day, lane, batch, run_id, done, target, xid, outbox_id, system_id, rest)
select p.day, p.lane, p.batch + 1, held.run_id, p.done, p.target, p.xid, p.outbox_id, here.system_identifier,
       p.rest
  from lease held
  cross join pg_control_system() as here
  cross join lateral (select * from tail_position where lane = $2 order by batch desc limit 1) p
 where held.run_id = $1 and p.system_id <> here.system_identifier;

-- runs_before: runs of every shard before $1 that ended without saying so
select r.id from run r where r.id < $1 and not exists (select from run_end e where e.run_id = r.id);
