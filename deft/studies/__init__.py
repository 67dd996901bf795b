"""Human studies without people, pages or a database: what is shown, what judgements say, what data they make."""
