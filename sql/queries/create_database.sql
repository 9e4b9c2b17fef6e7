-- Make the database of the embedded server.
create database hyperdrip;
