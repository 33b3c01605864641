"""What makes numbers of samples: loops over pixels, what adds, and the statistics made of it."""
