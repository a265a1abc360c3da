-- status_server: the server, its clock, the months that have partitions, and the encryption key's check
select current_setting('server_version') as version, clock_timestamp() as clock, i.key_check,
       months.first, months.last
  from installation i
  cross join (
    select min(right(c.relname, 7)) as first, max(right(c.relname, 7)) as last
      from pg_inherits h join pg_class c on c.oid = h.inhrelid
     where h.inhparent = 'public.outbox'::regclass
  ) months;

-- incarnation_branched: the newest branch of the server's history, if it is recent and no operator has acknowledged it
select before.timeline as before, newest.timeline, newest.at as noticed_at, newest.reaches as known_until
  from (select * from incarnation order by id desc limit 1) newest
  join incarnation before on before.id = newest.id - 1
 where not newest.acknowledged and newest.at > clock_timestamp() - interval '7 days';

-- status_unread: of lane $1, how many rows there are after ($2, $3), of transactions $4 before it without a message, up to $7
-- With $5 and $6 as in tail_range: the day of the position, and the rows that a rebase dealt with.
select count(*) as rows, min(recorded_at) as oldest from (
    (select o.recorded_at from outbox o
      where o.lane = $1 and (o.xid, o.id) > ($2::text::xid8, $3::bigint)
        and o.day >= least($5::date, current_date) - 2 and o.id > $6::bigint
      order by o.xid, o.id limit $7)
    union all
    (select o.recorded_at from outbox o
      where o.lane = $1 and o.xid = any ($4::text[]::xid8[]) and (o.xid, o.id) <= ($2::text::xid8, $3::bigint)
        and o.id > $6::bigint
        and not exists (select from message m where m.day = o.day and m.outbox_id = o.id)
      limit $7)) unread;

-- status_unattempted: of lane $1, how many deliveries have no fact, up to $5
-- In the first $5 messages after batch $2, and up to that batch those of webhooks $3 after events $4.
select count(*) as deliveries, min(recorded_at) as oldest from (
    (select m.recorded_at
       from (select day, outbox_id, recorded_at from message
              where lane = $1 and batch > $2 order by batch, outbox_id limit $5) m
       join delivery d on d.day = m.day and d.outbox_id = m.outbox_id
      where not exists (
        select from delivery_event e
         where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id)
      limit $5)
    union all
    (select m.recorded_at
       from unnest($3::bigint[], $4::bigint[]) as w (webhook_id, after)
       join delivery d on d.webhook_id = w.webhook_id and d.outbox_id > w.after and d.lane = $1
       join message m on m.day = d.day and m.outbox_id = d.outbox_id and m.batch <= $2
      where not exists (
        select from delivery_event e
         where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id)
      limit $5)) waiting;

-- status_scheduled: how many attempts are due since $1 and how many later, up to $2 together, and when the first
select count(*) filter (where s.next_attempt_at <= clock_timestamp()) as due,
       count(*) filter (where s.next_attempt_at > clock_timestamp()) as later,
       min(s.next_attempt_at) as first, min(s.recorded_at) as oldest
  from (
    select e.next_attempt_at, m.recorded_at
      from delivery_event e join message m on m.day = e.day and m.outbox_id = e.outbox_id
     where e.next_attempt_at >= $1
       and not exists (
        select from delivery_event l
         where l.day = e.day and l.outbox_id = e.outbox_id and l.webhook_id = e.webhook_id
           and (l.attempt_no, l.step) > (e.attempt_no, e.step))
     order by e.next_attempt_at limit $2) s;
