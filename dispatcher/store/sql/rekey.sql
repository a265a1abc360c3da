-- rekey_begin: which encryption key the secrets were sealed with; whoever seals waits until the transaction ends
select key_check from installation for update;

-- rekey_webhooks: what is sealed of the webhooks after $1, deleted ones included, $2 at most
select id, public_id, secret, next_secret, headers from webhook where id > $1 order by id limit $2 for update;

-- rekey_write: the same under another key
update webhook w set secret = s.secret, next_secret = s.next_secret, headers = s.headers
  from unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[]) as s (id, secret, next_secret, headers)
 where w.id = s.id;

-- rekey_answers: the answers that are kept by Idempotency-Key; one that is being replaced at this moment is left out
select api_key_id, key, answer from idempotency_key where answer is not null for update skip locked;

-- rekey_write_answers: the same under another key
update idempotency_key k set answer = s.answer
  from unnest($1::bigint[], $2::bytea[], $3::bytea[]) as s (api_key_id, key, answer)
 where k.api_key_id = s.api_key_id and k.key = s.key;

-- rekey_end: remember the new key
update installation set key_check = $1;

-- rekey_leader: whether a dispatcher leads
select exists (select from lease where expires_at > clock_timestamp()) as leads;
