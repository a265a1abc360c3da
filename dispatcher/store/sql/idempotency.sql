-- idempotency_turn: whether nobody else is working on this key of an API key at the moment
select pg_try_advisory_xact_lock(hashtextextended($1::text, 1735550317));

-- idempotency_take: take an Idempotency-Key, unless it was taken within a day
insert into idempotency_key (api_key_id, key, request) values ($1, $2, $3)
on conflict (api_key_id, key) do update set request = $3, answer = null, created_at = now()
 where idempotency_key.created_at < now() - interval '24 hours'
returning created_at;

-- idempotency_answer: what was asked with a key, and the answer
select request, answer from idempotency_key where api_key_id = $1 and key = $2;

-- idempotency_keep: remember the answer
update idempotency_key set answer = $3 where api_key_id = $1 and key = $2;

-- idempotency_forget: delete some of what is older than a day
delete from idempotency_key
 where ctid = any (array(
    select ctid from idempotency_key where created_at < now() - interval '24 hours'
     order by created_at limit 100 for update skip locked));
