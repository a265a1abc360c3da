-- create_organization: a new organization, unless the name is taken
insert into organization (public_id, name) values ($1, $2) on conflict (name) do nothing
returning id, public_id, name, created_at;

-- add_networks: organization $1 hears of these networks
insert into organization_network (organization_id, network_id)
select $1, unnest($2::text[]) on conflict do nothing;

-- organizations: all of them with their networks, the oldest first
select o.public_id, o.name, o.created_at,
       array(select n.network_id from organization_network n
              where n.organization_id = o.id order by n.network_id) as network_ids
  from organization o order by o.id;

-- organization_named: the organization with this name or public id
select id from organization where name = $1 or public_id = $1 order by public_id <> $1 limit 1;

-- networks_of: which networks an organization hears of
select network_id from organization_network where organization_id = $1 order by network_id;

-- create_key: a new API key, by the hash of it
insert into api_key (public_id, organization_id, name, hash, hint, scopes, expires_at)
values ($1, $2, $3, $4, $5, $6, $7);

-- keys: API keys, of organization $1 or of all, the oldest first
select k.public_id, o.name as organization, k.name, k.hint, k.scopes, k.created_at, k.expires_at,
       k.revoked_at, k.last_used_at
  from api_key k join organization o on o.id = k.organization_id
 where $1::bigint is null or k.organization_id = $1
 order by k.id;

-- revoke_key: from now on the key opens nothing
update api_key set revoked_at = now() where public_id = $1 and revoked_at is null returning public_id;

-- authenticate: the key with this hash, if it is valid now; notes its use, at most once a minute
with found as materialized (
    select k.id, k.public_id, k.organization_id, k.scopes, k.last_used_at
      from api_key k
     where k.hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
), noted as (
    update api_key k set last_used_at = now()
      from found
     where k.id = found.id and (found.last_used_at is null or found.last_used_at < now() - interval '1 minute')
)
select id, public_id, organization_id, scopes from found;

-- audit: who changed what; without an actor it is the database role
insert into audit (actor, action, subject, details) values (coalesce($1, current_user), $2, $3, $4::json);
