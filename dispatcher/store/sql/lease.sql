-- lease_row: who leads, and whether its time is over
select run_id, owner, expires_at < clock_timestamp() as expired from lease for update;

-- run_begin: a new run
insert into run (owner, version) values ($1, $2) returning id;

-- lease_set: run $1 leads for $3 seconds from now
insert into lease (run_id, owner, expires_at)
values ($1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (singleton) do update
   set run_id = excluded.run_id, owner = excluded.owner, expires_at = excluded.expires_at;

-- lease_renew: run $1 leads for $2 seconds more, if it still does and has not given the lead back
update lease set expires_at = clock_timestamp() + make_interval(secs => $2)
 where run_id = $1 and expires_at > '-infinity' returning run_id;

-- lease_release: run $1 stops leading
update lease set expires_at = '-infinity' where run_id = $1;
