from depin_orcha.cli import main

main()
