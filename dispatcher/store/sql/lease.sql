-- lease_row: who holds shard $1, and whether his time is over
select run_id, owner, expires_at < clock_timestamp() as expired from lease where shard = $1 for update;

-- run_begin: a new run, of shard $3
insert into run (owner, version, shard) values ($1, $2, $3) returning id;

-- lease_set: run $1 holds shard $4 for $3 seconds from now
insert into lease (shard, run_id, owner, expires_at)
values ($4, $1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (shard) do update
   set run_id = excluded.run_id, owner = excluded.owner, expires_at = excluded.expires_at;

-- lease_renew: run $1 goes on for $2 seconds more, if it still holds its shard and has not given it back
update lease set expires_at = clock_timestamp() + make_interval(secs => $2)
 where run_id = $1 and expires_at > '-infinity' returning run_id;

-- lease_release: run $1 holds its shard no longer
update lease set expires_at = '-infinity' where run_id = $1;
