-- hold_shards: until the end of the transaction nobody else takes a shard or changes their number
-- A process that is frozen or cut off in between must not keep the others out for longer than a lease.
select pg_advisory_xact_lock(1735550316, 4), set_config('idle_in_transaction_session_timeout', '5s', true);

-- shard_count: into how many shards the webhooks are divided
select shards from installation;

-- member_stays: process $1 is there for $3 seconds from now
insert into member (owner, version, expires_at)
values ($1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (owner) do update set expires_at = excluded.expires_at;

-- member_leaves: process $1 leaves; with it go those that have not been there for a while
delete from member where owner = $1 or expires_at < clock_timestamp() - interval '1 minute';

-- members: the processes that are there
select owner, version, joined_at from member where expires_at > clock_timestamp() order by joined_at, owner;

-- shard_holders: each shard, with who holds or held it, and for how long still; an infinite time was given back
select s.shard, l.run_id, l.owner, r.version, r.started_at,
       case when isfinite(l.expires_at)
            then extract(epoch from l.expires_at - clock_timestamp())::float8 else 0 end as left_s
  from installation i
 cross join lateral generate_series(0, i.shards - 1) as s (shard)
  left join lease l on l.shard = s.shard
  left join run r on r.id = l.run_id
 order by s.shard;

-- shards_held: the leases that are not over
select shard, owner from lease where expires_at > clock_timestamp() order by shard for update;

-- runs_unended: runs that ended without saying so, or go on
select r.id from run r where not exists (select from run_end e where e.run_id = r.id) order by r.id;

-- reshard: let $1 shards go on from where those so far stood, in the name of run $2
-- Each begins where the first of the others would have begun, with every webhook that waits, or of which something
-- was left unattempted: a shard that followed would have read that in its order, one that leads would pass it.
with stood as materialized (
    select l.lane, min(coalesce(c.batch, 0)) as batch,
           coalesce(json_agg(w.pair) filter (where w.pair is not null), '[]') as waiting
      from generate_series(0, 3) as l (lane)
     cross join lateral (select generate_series(0, shards - 1) as shard from installation) s
      left join lateral (
        select batch, waiting from tail_checkpoint t
         where t.shard = s.shard and t.lane = l.lane order by t.id desc limit 1) c on true
      left join lateral json_array_elements(c.waiting) as w (pair) on true
     group by l.lane
), unattempted as materialized (
    select s.lane, json_build_array(d.webhook_id, min(d.outbox_id) - 1) as pair
      from stood s
      join message m on m.lane = s.lane and m.batch > s.batch
      join delivery d on d.day = m.day and d.outbox_id = m.outbox_id and d.recovery_id is null
     where s.lane < 3 and not exists (
        select from delivery_event e
         where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id)
     group by s.lane, d.webhook_id
)
insert into tail_checkpoint (shard, lane, run_id, batch, waiting)
select n.shard, s.lane, $2::bigint, s.batch,
       coalesce((
           select json_agg(w.pair)
             from (select pair from json_array_elements(s.waiting) as e (pair)
                   union all
                   select u.pair from unattempted u where u.lane = s.lane) w), '[]')
  from generate_series(0, $1::integer - 1) as n (shard)
 cross join stood s;

-- end_resharding: run $1 left nothing open
insert into run_end (run_id, how) values ($1, 'clean');

-- forget_leases: nobody holds anything
delete from lease;

-- set_shard_count: divide the webhooks into $1 shards
update installation set shards = $1;
