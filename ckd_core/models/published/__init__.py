"""Weights that others published: conversion, and starts of a training."""
