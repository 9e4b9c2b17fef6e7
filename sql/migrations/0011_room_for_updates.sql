-- A wave updates whole pages of leads and messages at once, and a message twice: each page keeps room for that, or
-- the new versions go to other pages, with a new entry in each index. It counts for pages that are filled from now
-- on.
alter table hyperdrip.lead set (fillfactor = 45);
alter table hyperdrip.message set (fillfactor = 40);
