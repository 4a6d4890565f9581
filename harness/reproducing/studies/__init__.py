"""The studies: a module for each, whose function ``study`` measures what a paper has measured."""
