"""Programs that a language model wrote, run and judged without believing them."""
