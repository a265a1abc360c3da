-- messages_after: a lane's messages in the order of their fan-out
select batch, outbox_id, day, fan_out from message
 where lane = $1 and (batch, outbox_id) > ($2::bigint, $3::bigint)
 order by batch, outbox_id limit $4;

-- unattempted: deliveries of these messages that have no fact, and the run that had taken each into memory
-- But for those that run $3 has taken: of an event whose fan-out was begun before, it writes the rest.
select d.day, d.outbox_id, d.webhook_id, d.run_id
  from unnest($1::date[], $2::bigint[]) as m (day, outbox_id)
  join delivery d on d.day = m.day and d.outbox_id = m.outbox_id
 where d.webhook_id % $4::integer = $5 and d.run_id is distinct from $3::bigint
   and not exists (
    select from delivery_event e
     where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id);

-- waiting: a webhook's deliveries of one lane after a position that have no fact
select d.day, d.outbox_id, m.type, m.recorded_at, o.test, o.traceparent,
       coalesce(d.body, case when d.webhook_id = any (m.full_for) then m.full_body else m.body end) as body
  from delivery d
  join message m on m.day = d.day and m.outbox_id = d.outbox_id
  join outbox o on o.day = d.day and o.id = d.outbox_id
 where d.webhook_id = $1 and d.lane = $2 and d.outbox_id > $3
   and not exists (
    select from delivery_event e
     where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id)
 order by d.outbox_id limit $4;

-- due: facts whose time has come and that have no successor, of $7 shards of the one numbered $8
-- Up to $4, the present time; and up to $6 what says of itself that it was written later than that: by a clock
-- that was ahead. (What was interrupted is due by nobody's clock but the one that said when: at once after a crash,
-- else within five minutes.)
-- What has a successor is left out before anything is joined: of what is read again, that is nearly everything.
-- `asked`: somebody asked for this attempt, or for a recovery, whose retries are part of it.
with due as materialized (
    select e.day, e.outbox_id, e.webhook_id, e.attempt_no, e.step, e.kind, e.state, e.trigger, e.failures,
           e.next_attempt_at
      from delivery_event e
     where (e.next_attempt_at, e.outbox_id, e.webhook_id) > ($1::timestamptz, $2::bigint, $3::bigint)
       and e.next_attempt_at <= $6 and e.webhook_id % $7::integer = $8
       and (e.next_attempt_at <= $4
            or case when e.kind <> 'interrupted' then coalesce(e.started_at, e.recorded_at)
                    when e.reason = 'crash' then e.next_attempt_at
                    else e.next_attempt_at - interval '5 minutes' end > $4)
       and not exists (
        select from delivery_event l
         where l.day = e.day and l.outbox_id = e.outbox_id and l.webhook_id = e.webhook_id
           and (l.attempt_no, l.step) > (e.attempt_no, e.step))
     order by e.next_attempt_at, e.outbox_id, e.webhook_id limit $5
)
select e.*, d.lane, m.type, m.recorded_at, o.test, o.traceparent, exists (
           select from delivery_event r
            where r.day = e.day and r.outbox_id = e.outbox_id and r.webhook_id = e.webhook_id
              and r.kind = 'requested'
              and (r.trigger = 'recover' or e.kind <> 'attempted' and r.attempt_no = e.attempt_no)) as asked,
       coalesce(d.body, case when e.webhook_id = any (m.full_for) then m.full_body else m.body end) as body
  from due e
  join delivery d on d.day = e.day and d.outbox_id = e.outbox_id and d.webhook_id = e.webhook_id
  join message m on m.day = e.day and m.outbox_id = e.outbox_id
  join outbox o on o.day = e.day and o.id = e.outbox_id
 order by e.next_attempt_at, e.outbox_id, e.webhook_id;

-- due_of_webhook: the same for one webhook, of one sort ($6): first attempts that come again, retries, what is asked for
with due as materialized (
    select e.day, e.outbox_id, e.webhook_id, e.attempt_no, e.step, e.kind, e.state, e.trigger, e.failures,
           e.next_attempt_at
      from delivery_event e
     where e.webhook_id = $1 and (e.next_attempt_at, e.outbox_id) > ($2::timestamptz, $3::bigint)
       and e.next_attempt_at <= $7
       and case when e.kind in ('interrupted', 'postponed') and e.trigger in ('first', 'test') then 'first'
                when e.kind <> 'attempted' and e.trigger in ('manual', 'recover') then 'asked' else 'retry' end = $6
       and (e.next_attempt_at <= $4
            or case when e.kind <> 'interrupted' then coalesce(e.started_at, e.recorded_at)
                    when e.reason = 'crash' then e.next_attempt_at
                    else e.next_attempt_at - interval '5 minutes' end > $4)
       and not exists (
        select from delivery_event l
         where l.day = e.day and l.outbox_id = e.outbox_id and l.webhook_id = e.webhook_id
           and (l.attempt_no, l.step) > (e.attempt_no, e.step))
     order by e.next_attempt_at, e.outbox_id limit $5
)
select e.*, d.lane, m.type, m.recorded_at, o.test, o.traceparent, exists (
           select from delivery_event r
            where r.day = e.day and r.outbox_id = e.outbox_id and r.webhook_id = e.webhook_id
              and r.kind = 'requested'
              and (r.trigger = 'recover' or e.kind <> 'attempted' and r.attempt_no = e.attempt_no)) as asked,
       coalesce(d.body, case when e.webhook_id = any (m.full_for) then m.full_body else m.body end) as body
  from due e
  join delivery d on d.day = e.day and d.outbox_id = e.outbox_id and d.webhook_id = e.webhook_id
  join message m on m.day = e.day and m.outbox_id = e.outbox_id
  join outbox o on o.day = e.day and o.id = e.outbox_id
 order by e.next_attempt_at, e.outbox_id;

-- awaited: what comes again and is waited for: retries of webhooks whose order is strict, and what was postponed
-- (Also where settle_s was taken away since.)
select e.day, e.outbox_id, e.webhook_id, m.type, m.body, m.recorded_at, o.test, o.traceparent
  from webhook w
  join delivery_event e on e.webhook_id = w.id and e.next_attempt_at > statement_timestamp() - interval '1 day'
  join message m on m.day = e.day and m.outbox_id = e.outbox_id
  join outbox o on o.day = e.day and o.id = e.outbox_id
 where w.id % $1::integer = $2
   and (w.ordering = 'strict'
        or e.kind = 'postponed' and (
            w.settle_s is not null
            or w.updated_at > w.created_at and w.updated_at > statement_timestamp() - interval '2 days'))
   and w.active and w.deleted_at is null and e.state = 'pending'
   and coalesce(e.trigger, 'first') not in ('recover', 'manual')  -- these stand in no line of what is new
   and not exists (
    select from delivery_event l
     where l.day = e.day and l.outbox_id = e.outbox_id and l.webhook_id = e.webhook_id
       and (l.attempt_no, l.step) > (e.attempt_no, e.step))
 order by e.outbox_id limit 10000;

-- stopped_waiting: inactive webhooks, of $1 shards of the one numbered $2, of which something waits for a retry
select w.id from webhook w
 where w.id % $1::integer = $2 and not (w.active and w.deleted_at is null)
   and exists (
    select from delivery_event e
     where e.webhook_id = w.id and e.next_attempt_at > statement_timestamp() - interval '10 minutes'
       and e.state = 'pending'
       and not exists (
        select from delivery_event l
         where l.day = e.day and l.outbox_id = e.outbox_id and l.webhook_id = e.webhook_id
           and (l.attempt_no, l.step) > (e.attempt_no, e.step)));

-- next_due: the earliest due time after $1, and the database's clock
select min(next_attempt_at) as due_at, clock_timestamp() as clock from delivery_event
 where next_attempt_at > $1 and webhook_id % $2::integer = $3;

-- written_ahead: the latest time at which facts that are not due at $1 say that they were written
select max(case when kind <> 'interrupted' then coalesce(started_at, recorded_at)
                when reason = 'crash' then next_attempt_at
                else next_attempt_at - interval '5 minutes' end) as newest
  from delivery_event where next_attempt_at > $1;

-- dead_runs: runs of shard $2 before $1 that ended without saying so
select r.id from run r
 where r.id < $1 and r.shard = $2 and not exists (select from run_end e where e.run_id = r.id);

-- interrupt_deliveries: of these messages, write down the first attempts that a dead run may have made
-- Due at $5, by the clock that reads the schedule; alerts first: the lanes are a millisecond apart.
insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger, failures,
                            run_id, reason, next_attempt_at)
select d.day, d.outbox_id, d.webhook_id, 1, 2, 'interrupted', 'pending', 'first', 0, held.run_id, 'crash',
       $5::timestamptz + d.lane * interval '1 millisecond'
  from lease held
  cross join unnest($3::date[], $4::bigint[]) as m (day, outbox_id)
  join delivery d on d.day = m.day and d.outbox_id = m.outbox_id
 where held.run_id = $1
   -- Taken when it was written, or since: by a shard that follows, however long ago that was.
   and (d.run_id = any ($2::bigint[]) or exists (
    select from claim c
     where c.day = d.day and c.outbox_id = d.outbox_id and c.webhook_id = d.webhook_id and c.attempt_no = 1
       and c.run_id = any ($2::bigint[])))
   and not exists (
    select from delivery_event e
     where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id)
on conflict do nothing;

-- interrupt_claims: write down the claimed attempts that a dead run may have made
insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger, failures,
                            run_id, reason, next_attempt_at)
select c.day, c.outbox_id, c.webhook_id, c.attempt_no, 2, 'interrupted', coalesce(last.state, 'pending'),
       case when last.state is null then 'first'
            when last.kind in ('requested', 'interrupted', 'postponed') then last.trigger else 'retry' end,
       coalesce(last.failures, 0), held.run_id, 'crash',
       $4::timestamptz + d.lane * interval '1 millisecond'
  from lease held
  join claim c on c.run_id = any ($2::bigint[]) and c.claimed_at >= $3
  join delivery d on d.day = c.day and d.outbox_id = c.outbox_id and d.webhook_id = c.webhook_id
  left join lateral (
      select e.attempt_no, e.step, e.kind, e.state, e.trigger, e.failures from delivery_event e
       where e.day = c.day and e.outbox_id = c.outbox_id and e.webhook_id = c.webhook_id
       order by e.attempt_no desc, e.step desc limit 1) last on true
 where held.run_id = $1
   and (last.attempt_no is null or (last.attempt_no, last.step) < (c.attempt_no, 1::smallint))
on conflict do nothing;

-- run_ended: these runs left nothing open, says run $1, as long as it leads
insert into run_end (run_id, how)
select unnest($2::bigint[]), $3 from lease where run_id = $1 on conflict do nothing;
