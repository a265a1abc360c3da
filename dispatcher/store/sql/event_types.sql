-- event_types: all registered types
select name, description, lane, fields::text as fields, sample::text as sample, built_in
  from event_type order by name offset $1 limit $2;

-- event_type_count: how many types are registered
select count(*) from event_type;

-- event_type_names: the names alone
select name from event_type order by name;

-- event_type_sample: the sample of one type, as it was written
select sample::text from event_type where name = $1;

-- add_event_type: register a type, unless the name is taken; refused where the sample does not fit
insert into event_type (name, description, lane, fields, sample) values ($1, $2, $3, $4::json, $5::json)
on conflict (name) do nothing returning name;
