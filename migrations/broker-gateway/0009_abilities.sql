-- What a copy says of itself: whether it can work on what it holds.
alter table copies add column ability text not null default 'able' check (ability in ('able', 'troubled', 'unable'));
