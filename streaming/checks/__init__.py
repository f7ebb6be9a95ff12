"""The contracts of the exchangeable parts as plain functions: run them over an implementation of your own."""
