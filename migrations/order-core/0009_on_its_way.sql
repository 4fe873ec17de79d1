-- An attempt that is under way is no fact of the order server any more: such an order is on its way to the broker.
update orders set submit = 'queued' where submit = 'sent';
update orders set status = 'pending_send' where status = 'sent';
